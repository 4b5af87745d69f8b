// SPDX-License-Identifier: Apache-2.0
#include "common/core/result.h"

namespace bulkhead {

int exit_code(ErrorKind kind)
{
    switch (kind) {
    case ErrorKind::failed: return 1;
    case ErrorKind::usage: return 2;
    case ErrorKind::invalid: return 3;
    case ErrorKind::unreachable: return 4;
    case ErrorKind::refused: return 5;
    }
    return 1;
}

} // namespace bulkhead
