"""The compiled reader stays within its memory, whatever it reads: compilers can check that."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from conftest import absent

ROOT = Path(__file__).parents[2]
# Imports the library as the compiled part in place of the one that is installed, and has it read
# from arrays: bytes have a 0 behind their end, and to read that one would pass for right.
PROGRAM = """
import importlib.util, sys
import numpy as np
import pytest
spec = importlib.util.spec_from_file_location("watchkeep.streams._wire", sys.argv[1])
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
class Reader:
    def __init__(self, *settings):
        self.reader = made(*settings)
        self.learn, self.labels = self.reader.learn, self.reader.labels
    def read(self, plain, version):
        return self.reader.read(np.frombuffer(plain, np.uint8).copy(), version)
made, module.Reader = module.Reader, Reader
code = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "agree or kept", sys.argv[2]])
assert sys.modules[spec.name].__file__ == sys.argv[1]
sys.exit(code)
"""


def test_no_request_leads_the_compiled_reader_astray(
    need_program: Callable[[str], str], tmp_path: Path
) -> None:
    gcc = need_program("gcc")
    found = subprocess.check_output([gcc, "-print-file-name=libasan.so"], text=True).strip()
    include = sysconfig.get_paths()["include"]
    if not Path(found).is_absolute():
        absent("the address sanitizer (libasan, of gcc)")
    if not (Path(include) / "Python.h").exists():
        absent("Python.h")
    library = tmp_path / "_wire.abi3.so"
    options = ["-shared", "-fPIC", "-O1", "-g", "-fsanitize=address,undefined"]
    options += ["-fno-sanitize-recover=all", f"-I{include}", f"-o{library}"]
    subprocess.run([gcc, *options, ROOT / "streams" / "_wire.c"], check=True)
    # Python's own allocator would hide what lies beyond an object.
    own = {
        "LD_PRELOAD": found,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, library, ROOT / "tests" / "unit" / "test_wire.py"],
        env=os.environ | own,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4_000:] + ran.stderr[-4_000:]
