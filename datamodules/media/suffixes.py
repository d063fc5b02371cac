"""How files of video are named. Imports nothing, so that a command line is checked at once."""

_NAMES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = tuple(f".{name}" for name in _NAMES.split())
"""By which videos in a folder are known; a file that is named may end in anything."""
