// Memory for results and temporaries: aligned, kept for the next call, bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace backlit {

constexpr size_t alignment = 64;  // bytes: one cache line, and the widest vector register

// `bytes` of undefined content at a multiple of `alignment`; throws std::bad_alloc. A released block is kept for the
// next request of about its size. Any thread may release a block; a forked child may release its parent's.
void* allocate(size_t bytes);
void release(void* pointer) noexcept;

// Give all blocks that wait for a request back to the system.
void empty_pool() noexcept;

// In bytes, as the blocks are large, which is up to an eighth more than was asked for.
struct PoolFigures {
    int64_t live;  // in blocks that are in use
    int64_t idle;  // in blocks that wait for a request
    int64_t peak;  // the most that was ever live in blocks of 64 KB and more
};

PoolFigures pool_figures() noexcept;

// For tests: let the n-th allocation from now fail, 0 being the next one; below 0, none.
void fail_allocation(int64_t n) noexcept;

// `count` numbers of undefined content, for the lifetime of the object.
template <class T>
class Buffer {
  public:
    explicit Buffer(int64_t count) : data_(static_cast<T*>(allocate(bytes(count)))) {}
    ~Buffer() { release(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    T* data() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }

  private:
    static size_t bytes(int64_t count) {
        if (count < 0 || static_cast<uint64_t>(count) > SIZE_MAX / 2 / sizeof(T)) throw std::bad_alloc();
        return static_cast<size_t>(count) * sizeof(T);
    }

    T* data_;
};

}  // namespace backlit
