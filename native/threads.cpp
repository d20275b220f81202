#include "threads.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace backlit {

void run_pieces(int64_t count, int threads, void (*body)(const void*, int64_t), const void* context) {
    std::atomic<int64_t> next{0};
    std::exception_ptr error;
    std::mutex mutex;
    auto work = [&] {
        for (int64_t i; (i = next++) < count;) {
            try {
                body(context, i);
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                if (!error) error = std::current_exception();
                next = count;
            }
        }
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads && t < count; ++t) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    if (error) std::rethrow_exception(error);
}

}  // namespace backlit
