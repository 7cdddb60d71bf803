"""Finds and loads libaios."""

import ctypes
import os
import subprocess

SONAME = "libaios.so.0"
VERSION = "0.2"
PKG_CONFIG_TIMEOUT_S = 10


def _installed_folder() -> str | None:
    """Where pkg-config says that libaios is."""
    try:
        found = subprocess.run(["pkg-config", "--variable=libdir", "aios"], text=True,
                               capture_output=True, timeout=PKG_CONFIG_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    folder = found.stdout.strip()
    return folder if found.returncode == 0 and folder else None


def _open() -> ctypes.CDLL:
    if named := os.environ.get("AIOS_LIBRARY"):
        try:
            return ctypes.CDLL(named)
        except OSError as error:
            raise ImportError(f"AIOS_LIBRARY names no library that can be loaded: {error}") from None
    try:
        return ctypes.CDLL(SONAME)
    except OSError as error:
        reason = str(error)
    if folder := _installed_folder():
        try:
            return ctypes.CDLL(os.path.join(folder, SONAME))
        except OSError as error:
            reason = str(error)
    raise ImportError(
        f"{SONAME} cannot be loaded ({reason}). Install AIOS where the loader or pkg-config looks, "
        "or let AIOS_LIBRARY name the file")


def load() -> ctypes.CDLL:
    """The library, of a version that this package was written for; ImportError says why not."""
    library = _open()
    try:
        version_function = library.aios_version
    except AttributeError:
        raise ImportError(f"{library._name} is no libaios") from None
    version_function.restype = ctypes.c_char_p
    version_function.argtypes = []
    version = version_function().decode()
    if version.rpartition(".")[0] != VERSION:
        raise ImportError(f"{library._name} has version {version}; this package needs {VERSION}")
    return library
