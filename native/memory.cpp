// The pool of memory: every block has a header of one cache line before it, idle blocks wait in lists by size.
//
// Blocks below 64 KB wait in one of a few shelves, chosen by thread, so that threads hardly meet; all others in one
// depot, which knows the order in which they were released and gives the oldest back to the system where idle bytes
// exceed what is allowed. Those of 256 KB and more are mappings of their own, which really go back to the system. All
// locks are held by who forks, so that the child finds every list whole.
#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <type_traits>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define BACKLIT_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BACKLIT_POISON 1
#endif
#endif
#ifdef BACKLIT_POISON
#include <sanitizer/asan_interface.h>
#endif

namespace backlit {
namespace {

constexpr size_t mapped = size_t{256} << 10;       // bytes from which a block is a mapping of its own
constexpr size_t on_huge_pages = size_t{4} << 20;  // bytes from which it lies on huge pages, if the system has any
constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t most_bytes = SIZE_MAX / 4;
constexpr int64_t least_cap = int64_t{256} << 20;  // idle bytes of the depot that are always allowed
constexpr int64_t shelf_cap = int64_t{2} << 20;    // idle bytes of one shelf
constexpr int shelves = 16;
constexpr int steps = 8;                                               // size classes for each power of two
constexpr int classes = 64 * steps, small_classes = (16 - 3) * steps;  // 64 KB is 8 << 13

// Before the block. Its links are those of an idle block: the list of its class, and the depot's order of release.
struct Header {
    size_t capacity;  // bytes of the block, those of a size class
    int size_class;
    Header *next, *before;
    Header *newer, *older;
};
static_assert(sizeof(Header) <= alignment);

// Number and capacity of the class that holds so many bytes: (8 + step) << shift, from 64 bytes on.
struct Class {
    int number;
    size_t capacity;
};

Class class_of(size_t bytes) {
    bytes = std::max(bytes, alignment);
    int shift = 63 - __builtin_clzll(bytes) - 3;
    size_t units = (bytes + (size_t{1} << shift) - 1) >> shift;  // 8 to 16
    if (units == 2 * steps) units = steps, ++shift;
    return {shift * steps + static_cast<int>(units) - steps, units << shift};
}

Header* header_of(void* block) { return reinterpret_cast<Header*>(static_cast<char*>(block) - alignment); }
char* block_of(Header* header) { return reinterpret_cast<char*>(header) + alignment; }

// Under the address sanitizer nobody may touch the header of a block in use and what lies behind the bytes that were
// asked for, nor the content of an idle block; in other builds these do nothing.
#ifdef BACKLIT_POISON
constexpr size_t margin = alignment;  // bytes that are always behind those asked for
void hand_out(Header* header, size_t bytes) {
    __asan_unpoison_memory_region(block_of(header), bytes);
    __asan_poison_memory_region(block_of(header) + bytes, header->capacity - bytes);
    __asan_poison_memory_region(header, alignment);
}
void take_back(Header* header) {
    __asan_unpoison_memory_region(header, alignment);
    __asan_poison_memory_region(block_of(header), header->capacity);
}
void forget(Header* header) { __asan_unpoison_memory_region(header, alignment + header->capacity); }
#else
constexpr size_t margin = 0;
void hand_out(Header*, size_t) {}
void take_back(Header*) {}
void forget(Header*) {}
#endif

// Bytes of the mapping that holds a block and its header.
size_t mapped_length(size_t capacity) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return (alignment + capacity + page - 1) / page * page;
}

// Fresh memory from the system, large blocks at a multiple of huge pages; null where there is none.
void* map(size_t capacity) {
    const size_t length = mapped_length(capacity), room = capacity >= on_huge_pages ? huge_page : 0;
    void* raw = mmap(nullptr, length + room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return nullptr;
    if (room == 0) return raw;
    char* start = static_cast<char*>(raw);
    char* aligned = start + (room - reinterpret_cast<uintptr_t>(start) % room) % room;
    if (aligned != start) munmap(start, static_cast<size_t>(aligned - start));
    char *end = start + length + room, *used = aligned + length;
    if (end != used) munmap(used, static_cast<size_t>(end - used));
    madvise(aligned, length, MADV_HUGEPAGE);  // a wish: systems without huge pages refuse it
    return aligned;
}

// A new block, its header written; null where the system has no memory.
Header* fresh(Class c) {
    const size_t bytes = (alignment + c.capacity + alignment - 1) / alignment * alignment;
    void* memory = c.capacity >= mapped ? map(c.capacity) : std::aligned_alloc(alignment, bytes);
    auto* header = static_cast<Header*>(memory);
    if (header != nullptr) *header = {c.capacity, c.number, nullptr, nullptr, nullptr, nullptr};
    return header;
}

void discard(Header* header) {
    forget(header);
    if (header->capacity >= mapped) {
        munmap(header, mapped_length(header->capacity));
    } else {
        std::free(header);
    }
}

// Discard a chain of blocks linked by `next`.
void discard_all(Header* header) {
    while (header != nullptr) {
        Header* next = header->next;
        discard(header);
        header = next;
    }
}

// Small blocks of the threads that use it, the last released first.
struct alignas(64) Shelf {
    std::mutex mutex;
    Header* first[small_classes] = {};
    int64_t idle = 0;
    std::atomic<int64_t> live{0};  // below 0 where blocks are released by other threads than those that took them

    Header* take(Class c) {
        std::lock_guard<std::mutex> lock(mutex);
        Header* header = first[c.number];
        if (header != nullptr) {
            first[c.number] = header->next;
            idle -= static_cast<int64_t>(header->capacity);
        }
        return header;
    }

    // Keep a block, or say that there is no room for it.
    bool give(Header* header) {
        std::lock_guard<std::mutex> lock(mutex);
        const auto bytes = static_cast<int64_t>(header->capacity);
        if (idle + bytes > shelf_cap) return false;
        idle += bytes;
        header->next = first[header->size_class];
        first[header->size_class] = header;
        return true;
    }

    void empty() {
        for (Header*& list : first) {
            std::unique_lock<std::mutex> lock(mutex);
            Header* all = std::exchange(list, nullptr);
            for (Header* h = all; h != nullptr; h = h->next) idle -= static_cast<int64_t>(h->capacity);
            lock.unlock();
            discard_all(all);
        }
    }
};

// All larger blocks, by class and by the order in which they were released.
struct Depot {
    std::mutex mutex;
    Header* first[classes] = {};
    Header *newest = nullptr, *oldest = nullptr;
    int64_t idle = 0;
    std::atomic<int64_t> live{0}, peak{0};

    Header* take(Class c) {
        std::lock_guard<std::mutex> lock(mutex);
        Header* header = first[c.number];
        if (header != nullptr) unlink(header);
        return header;
    }

    // Keep a block, and say which are to be discarded for it, linked by `next`.
    Header* give(Header* header) {
        std::lock_guard<std::mutex> lock(mutex);
        const int64_t cap = std::max(live.load(std::memory_order_relaxed) / 4, least_cap);
        header->next = nullptr;
        if (static_cast<int64_t>(header->capacity) > cap) return header;
        link(header);
        return beyond(cap);
    }

    void empty() {
        std::unique_lock<std::mutex> lock(mutex);
        Header* all = beyond(0);
        lock.unlock();
        discard_all(all);
    }

    void count(int64_t bytes) {
        const int64_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
        int64_t most = peak.load(std::memory_order_relaxed);
        while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
        }
    }

  private:
    // The oldest blocks beyond so many idle bytes, taken out of the lists.
    Header* beyond(int64_t cap) {
        Header* chain = nullptr;
        while (idle > cap) {
            Header* header = oldest;
            unlink(header);
            header->next = chain;
            chain = header;
        }
        return chain;
    }

    void link(Header* header) {
        Header*& list = first[header->size_class];
        header->before = nullptr;
        header->next = list;
        if (list != nullptr) list->before = header;
        list = header;
        header->newer = nullptr;
        header->older = newest;
        (newest != nullptr ? newest->newer : oldest) = header;
        newest = header;
        idle += static_cast<int64_t>(header->capacity);
    }

    void unlink(Header* header) {
        (header->before != nullptr ? header->before->next : first[header->size_class]) = header->next;
        if (header->next != nullptr) header->next->before = header->before;
        (header->newer != nullptr ? header->newer->older : newest) = header->older;
        (header->older != nullptr ? header->older->newer : oldest) = header->newer;
        idle -= static_cast<int64_t>(header->capacity);
    }
};

// Never destroyed, as arrays may be released, and threads may compute, while the process exits.
Shelf shelf[shelves];
Depot depot;
std::atomic<int64_t> until_failure{-1};
static_assert(std::is_trivially_destructible_v<Shelf> && std::is_trivially_destructible_v<Depot>);

Shelf& own_shelf() {
    static std::atomic<unsigned> threads{0};
    thread_local const unsigned number = threads++ % shelves;
    return shelf[number];
}

void lock_all() {
    depot.mutex.lock();
    for (Shelf& s : shelf) s.mutex.lock();
}

void unlock_all() {
    for (Shelf& s : shelf) s.mutex.unlock();
    depot.mutex.unlock();
}

[[maybe_unused]] const int registered = pthread_atfork(lock_all, unlock_all, unlock_all);

bool fails_by_request() {
    if (until_failure.load(std::memory_order_relaxed) < 0) return false;
    return until_failure.fetch_sub(1) == 0;
}

}  // namespace

void* allocate(size_t bytes) {
    if (bytes > most_bytes || fails_by_request()) throw std::bad_alloc();
    const Class c = class_of(bytes + margin);
    const bool is_small = c.number < small_classes;
    Shelf& own = own_shelf();
    Header* header = is_small ? own.take(c) : depot.take(c);
    if (header == nullptr) header = fresh(c);
    if (header == nullptr) {
        empty_pool();
        header = fresh(c);
    }
    if (header == nullptr) throw std::bad_alloc();
    const auto capacity = static_cast<int64_t>(c.capacity);
    if (is_small) {
        own.live.fetch_add(capacity, std::memory_order_relaxed);
    } else {
        depot.count(capacity);
    }
    hand_out(header, bytes);
    return block_of(header);
}

void release(void* pointer) noexcept {
    if (pointer == nullptr) return;
    Header* header = header_of(pointer);
    take_back(header);
    const auto capacity = static_cast<int64_t>(header->capacity);
    if (header->size_class < small_classes) {
        Shelf& own = own_shelf();
        own.live.fetch_sub(capacity, std::memory_order_relaxed);
        if (!own.give(header)) discard(header);
    } else {
        depot.live.fetch_sub(capacity, std::memory_order_relaxed);
        discard_all(depot.give(header));
    }
}

void empty_pool() noexcept {
    for (Shelf& s : shelf) s.empty();
    depot.empty();
}

PoolFigures pool_figures() noexcept {
    PoolFigures figures = {depot.live, 0, depot.peak};
    {
        std::lock_guard<std::mutex> lock(depot.mutex);
        figures.idle = depot.idle;
    }
    for (Shelf& s : shelf) {
        std::lock_guard<std::mutex> lock(s.mutex);
        figures.idle += s.idle;
        figures.live += s.live;
    }
    return figures;
}

void fail_allocation(int64_t n) noexcept { until_failure = n; }

}  // namespace backlit
