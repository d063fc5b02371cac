"""Are the system libraries there that OpenCV and MediaPipe load? Prints what fails; status 1 if something does."""

import ctypes
import sys
from importlib import import_module, resources

failed = []
for package in ("cv2", "mediapipe"):
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
