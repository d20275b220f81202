// What every processor of this architecture has: SSE2, or NEON on aarch64.
#define BACKLIT_ISA isa_baseline
#define BACKLIT_NAME "baseline"
#define BACKLIT_BYTES 16
#if defined(__aarch64__)
#define BACKLIT_REGISTERS 32
#else
#define BACKLIT_REGISTERS 16
#endif
#include "isa.inl"
