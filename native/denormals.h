// The floating-point mode in which kernels run: denormals are zero, as on them a processor is up to 100 times slower.
#pragma once

#include <cstdint>

namespace backlit {

// From construction to destruction this thread rounds to nearest, traps nothing, and takes and gives zero for numbers
// below the smallest normal one. Then the mode is what it was, the flags that tell of exceptions included.
class FlushDenormals {
  public:
    FlushDenormals() : before_(read()) { write(mode); }
    ~FlushDenormals() { write(before_); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
    // "memory" keeps the compiler from moving loads and stores, and what is computed between them, across the change.
#if defined(__x86_64__)
    using Register = uint32_t;
    static constexpr Register mode = 0x1f80 | 0x8000 | 0x0040;  // MXCSR: all exceptions masked, FTZ, DAZ
    static Register read() {
        Register value;
        __asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
        return value;
    }
    static void write(Register value) { __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory"); }
#else
    using Register = uint64_t;
    static constexpr Register mode = uint64_t{1} << 24;  // FPCR: FZ
    static Register read() {
        Register value;
        __asm__ volatile("mrs %0, fpcr" : "=r"(value) : : "memory");
        return value;
    }
    static void write(Register value) { __asm__ volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#endif

    Register before_;
};

}  // namespace backlit
