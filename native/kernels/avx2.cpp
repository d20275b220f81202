// AVX2 and FMA.
#define BACKLIT_ISA isa_avx2
#define BACKLIT_NAME "avx2"
#define BACKLIT_BYTES 32
#define BACKLIT_REGISTERS 16
#include "isa.inl"
