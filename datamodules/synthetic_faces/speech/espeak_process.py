"""Synthesises texts with espeak-ng in a process of its own; run as a script, standard library only.

espeak-ng carries state from one call to the next, so the same text gives other samples the second time. A fresh process
per clip makes the sound a function of the request alone, and keeps espeak away from a process that has torch threads.

Reads one JSON object from stdin: ``library``, ``data`` (paths of espeak-ng), ``voice``, ``rate`` (words per minute),
``pitch`` and ``range`` (0..100), ``texts``. Writes to stdout one line of JSON, ``sample_rate`` and per text the number of
``samples`` and the ``events`` as ``[seconds, IPA]``, and after it the samples of all texts as little-endian int16.
"""

import ctypes
import itertools
import json
import sys

SYNCHRONOUS = 2
PHONEME_EVENTS_IPA = 1 | 2
DONT_EXIT = 0x8000
EVENT_LIST_END = 0
EVENT_PHONEME = 7
RATE, PITCH, RANGE = 1, 3, 4
CHARS_UTF8 = 1


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h; of its union ``id`` the member that phoneme events fill."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        *((name, ctypes.c_int) for name in ("text_position", "length", "audio_position", "sample")),
        ("user_data", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def synthesise(request: dict) -> tuple[dict, bytes]:
    """Synthesise the texts of one request in order.

    Raises:
        SystemExit: espeak-ng could not be started, has no such voice, or refused a text.
    """
    library = ctypes.CDLL(request["library"])
    options = PHONEME_EVENTS_IPA | DONT_EXIT
    sample_rate = library.espeak_Initialize(SYNCHRONOUS, 0, request["data"].encode(), options)
    if sample_rate <= 0:
        raise SystemExit(f"espeak-ng did not start with data folder {request['data']}")
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise SystemExit(f"espeak-ng has no voice {request['voice']}")
    # Without a seed the clock gives one, and the noise of some voices differs from second to second.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    for parameter, value in ((RATE, request["rate"]), (PITCH, request["pitch"]), (RANGE, request["range"])):
        library.espeak_SetParameter(parameter, int(value), 0)

    spoken: list[dict] = []
    samples = bytearray()

    def record(wave, count, events) -> int:
        """Collects the samples and phoneme events of the last text."""
        if wave and count > 0:
            spoken[-1]["samples"] += count
            samples.extend(ctypes.string_at(wave, 2 * count))
        for event in itertools.takewhile(lambda event: event.type != EVENT_LIST_END, events):
            if event.type == EVENT_PHONEME:
                name = event.phoneme.decode("utf-8", errors="ignore")
                spoken[-1]["events"].append((event.audio_position / 1000.0, name))
        return 0

    callback = _CALLBACK(record)
    library.espeak_SetSynthCallback(callback)
    for text in request["texts"]:
        spoken.append({"samples": 0, "events": []})
        raw = text.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        if library.espeak_Synth(raw, size, 0, 0, 0, CHARS_UTF8, None, None) != 0:
            raise SystemExit(f"espeak-ng refused the text: {text}")
    return {"sample_rate": sample_rate, "spoken": spoken}, bytes(samples)


if __name__ == "__main__":
    header, pcm = synthesise(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(header, ensure_ascii=True).encode() + b"\n" + pcm)
