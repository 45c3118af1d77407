#include "daemon/store/store_test_util.h"

namespace latentd {

AllocateRecordMemory TestMemory() { return MakeHostMemory; }

}  // namespace latentd
