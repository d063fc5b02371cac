"""Are the system libraries there that OpenCV, MediaPipe and soundfile load? Prints what fails; status 1 if something does.

Most wheels of soundfile bring libsndfile along; the one for any platform, which some package indexes hand out, does not.
"""

import ctypes
import sys
from importlib import import_module, resources

failed = []
for package in ("cv2", "mediapipe", "soundfile"):
    try:
        import_module(package)
    except (ImportError, OSError) as error:
        failed.append(f"import {package}: {error}")
if not failed:
    try:
        ctypes.CDLL(str(resources.files("mediapipe") / "tasks" / "c" / "libmediapipe.so"))
    except OSError as error:
        failed.append(f"MediaPipe tasks: {error}")
print("\n".join(failed))
sys.exit(bool(failed))
