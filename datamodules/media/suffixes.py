"""How files of video, pictures and sound are named. Imports nothing, so that a command line is checked at once."""

_NAMES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = tuple(f".{name}" for name in _NAMES.split())
"""By which videos in a folder are known; a file that is named may end in anything."""
_PICTURES = "bmp jpeg jpg png tif tiff webp"
IMAGE_SUFFIXES = tuple(f".{name}" for name in _PICTURES.split())
"""By which pictures in a folder are known, likewise."""
_SOUNDS = "aac aif aiff flac m4a mp3 oga ogg opus wav wma"
SOUND_SUFFIXES = tuple(f".{name}" for name in _SOUNDS.split())
"""By which sounds in a folder are known, likewise."""
