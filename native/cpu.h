// What this processor and this process offer: instruction sets, and threads that can run at once.
#pragma once

#include <string>
#include <vector>

namespace backlit {

// The instruction sets that both the processor and the operating system support, the plainest first:
// "baseline" (SSE2 or NEON), "avx2" (AVX2 and FMA), "avx512" (F, VL, BW and DQ).
std::vector<std::string> isas();

// CPU time that the control groups of this process allow, in processors; infinity where nothing limits it.
// Control groups are nested, and the tightest limit from the process's own up to the outermost counts.
// `root` is put before the paths of /proc and /sys (for tests).
double cpu_quota(const std::string& root);

// The processors in the affinity mask, capped by the quota rounded up; at least 1.
int usable_threads();

// Name and version of the compiler that built this module.
std::string compiler();

}  // namespace backlit
