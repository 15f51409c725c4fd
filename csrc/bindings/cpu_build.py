"""cffi (API mode) builder of anetrain._cpu: the numerics of csrc/cpu for anetrain/cpu. Calls release the GIL.

The declarations are those of the headers: what stands inside of their extern "C" braces.
"""

from pathlib import Path

from cffi import FFI

FIRST = "fp16.h"  # others use its types
HEADERS = sorted((Path(__file__).resolve().parents[1] / "cpu").glob("*.h"), key=lambda h: (h.name != FIRST, h.name))
OPEN = '#ifdef __cplusplus\nextern "C" {\n#endif\n'
CLOSE = "#ifdef __cplusplus\n}\n#endif\n"


def declarations(header: Path) -> str:
    """Empty for a header that only other C files use."""
    return header.read_text().partition(OPEN)[2].partition(CLOSE)[0]


PUBLIC = [header for header in HEADERS if declarations(header)]

ffibuilder = FFI()
for header in PUBLIC:
    ffibuilder.cdef(declarations(header))
ffibuilder.set_source("anetrain._cpu", "".join(f'#include "cpu/{header.name}"\n' for header in PUBLIC))
