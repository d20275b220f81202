#include "memory.h"

#include <cstdlib>

namespace backlit {

void* allocate(size_t bytes) {
    void* result = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
    if (result == nullptr) throw std::bad_alloc();
    return result;
}

void release(void* pointer) noexcept { std::free(pointer); }

}  // namespace backlit
