#include "amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace glm {

bool has_amx() {
#if defined(__x86_64__)
  constexpr unsigned kWanted = 1u << 22 | 1u << 24 | 1u << 25;  // BF16, TILE, INT8: CPUID 7, EDX
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kWanted) != kWanted) return false;
  constexpr int kAskForPermission = 0x1023, kTileData = 18;  // see Linux' asm/prctl.h, arch/x86/xstate.rst
  return syscall(SYS_arch_prctl, kAskForPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace glm
