// The pool of threads: callers post jobs in a few slots, workers help with those that have tickets left.
//
// Nothing here is ever waited for but a worker that is inside a job, and no lock exists: a caller that finds no slot or
// no worker does all the work itself. So nested calls and calls from many threads cannot wait for one another, and in a
// forked child, where the workers do not exist, the pool is simply a new one.
#include "threads.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <exception>
#include <new>
#include <type_traits>

#include "cpu.h"
#include "denormals.h"

namespace backlit {
namespace {

constexpr int most_jobs =
    32;  // bits of Pool::taken: calls that share their work at the same time; the next one computes alone
constexpr int most_workers = 1023;  // so that tickets and workers fit into Job::state
constexpr size_t stack = 1 << 20;   // bytes of a worker's stack, thread-local data of the whole process included
constexpr auto patience = std::chrono::microseconds(40);  // of spinning, before a thread sleeps
constexpr int retry = 256;  // calls after which the system is asked again for a thread that it has refused

// State of a job: tickets (how many more workers may enter), whether the caller sleeps, and how many workers are
// inside.
constexpr uint32_t ticket = 1 << 16, tickets = 0xffff0000, asleep = 1 << 15, inside = asleep - 1;

struct alignas(64) Job {
    std::atomic<uint32_t> state{0};
    // Written by the caller before the tickets are, and read by workers after they took one.
    void (*body)(const void*, int64_t) = nullptr;
    const void* context = nullptr;
    int64_t count = 0;
    std::exception_ptr* error = nullptr;  // where the first exception goes
    std::atomic<bool> failed{false};      // set by who writes there
    alignas(64) std::atomic<int64_t> next{0};
};

struct Pool {
    std::atomic<uint32_t> taken{0};  // bit i: job[i] has a caller
    Job job[most_jobs];
    alignas(64) std::atomic<uint32_t> posted{0};  // counts jobs posted, so that a worker knows whether it missed one
    std::atomic<int> spinning{0}, sleeping{0};    // workers
    std::atomic<int> workers{0};
    std::atomic<bool> growing{false};  // a caller starts workers
    std::atomic<int> wait{0};          // calls to come before the next attempt to start one
    std::atomic<int> processors{1};    // usable when workers were last started
    std::atomic<bool> spin{false};     // the latest job left no processor without a thread of its own
};

// Never destroyed, as workers may run while the process exits.
Pool pool;
static_assert(std::is_trivially_destructible_v<Pool>);

// The child has one thread, the one that forked; no job of another thread's is ever finished there.
void begin_anew() { new (&pool) Pool; }
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, begin_anew);

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word, int threads) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

// Wait for `done`, burning the processor, for as long as patience lasts.
template <class Done>
bool spin_until(Done done) {
    const auto end = std::chrono::steady_clock::now() + patience;
    do {
        for (int i = 0; i < 16; ++i) {
            if (done()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return done();
}

void work(Job& job) {
    for (int64_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.count;) {
        try {
            job.body(job.context, i);
        } catch (...) {
            if (!job.failed.exchange(true)) *job.error = std::current_exception();
            job.next.store(job.count, std::memory_order_relaxed);
        }
    }
}

// Take a ticket of some job and help with it; false where no job has one.
bool help() {
    for (uint32_t left = pool.taken.load(); left != 0; left &= left - 1) {
        Job& job = pool.job[__builtin_ctz(left)];
        uint32_t state = job.state.load();
        while ((state & tickets) != 0) {
            if (!job.state.compare_exchange_weak(state, state - ticket + 1)) continue;
            work(job);
            // From here on the slot may serve another call: nothing but its address is used.
            const uint32_t before = job.state.fetch_sub(1);
            if ((before & asleep) != 0 && (before & inside) == 1) wake(job.state, 1);
            return true;
        }
    }
    return false;
}

void* serve(void*) {
    const FlushDenormals mode;
    for (;;) {
        const uint32_t seen = pool.posted.load();
        if (help()) continue;
        const auto posted = [&] { return pool.posted.load(std::memory_order_relaxed) != seen; };
        bool again = false;
        if (pool.spin.load(std::memory_order_relaxed)) {
            ++pool.spinning;
            again = spin_until(posted);
            --pool.spinning;
        }
        if (again) continue;
        // Counted before the futex compares: who posts afterwards sees a sleeper, who posted before has changed
        // `posted`.
        ++pool.sleeping;
        sleep_while(pool.posted, seen);
        --pool.sleeping;
    }
    return nullptr;
}

// Detached, and with all signals blocked, which are for the interpreter's threads to handle.
bool start_worker() {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const bool started = pthread_create(&thread, &attributes, serve, nullptr) == 0;
    if (started) pthread_setname_np(thread, "backlit");  // it never ends, so it is there to be named
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    return started;
}

// Have so many workers, or as many as the system grants; leaves it to another caller that is at it.
void grow(int wanted) {
    if (pool.workers.load() >= wanted || pool.growing.exchange(true)) return;
    if (pool.wait.load() > 0) {
        --pool.wait;
    } else {
        try {
            pool.processors = usable_threads();
        } catch (const std::bad_alloc&) {  // no memory to find out: no spinning
            pool.processors = 1;
        }
        while (pool.workers.load() < wanted) {
            if (!start_worker()) {
                pool.wait = retry;
                break;
            }
            ++pool.workers;
        }
    }
    pool.growing = false;
}

// A slot that no other caller has; null where all have.
Job* take_slot() {
    uint32_t taken = pool.taken.load();
    while (taken != UINT32_MAX) {
        const int free = __builtin_ctz(~taken);
        if (pool.taken.compare_exchange_weak(taken, taken | uint32_t{1} << free)) return &pool.job[free];
    }
    return nullptr;
}

}  // namespace

void run_pieces(int64_t count, int threads, void (*body)(const void*, int64_t), const void* context) {
    const FlushDenormals mode;
    const int helpers = static_cast<int>(std::min<int64_t>({count - 1, threads - 1, most_workers}));
    Job* job = nullptr;
    if (helpers > 0) {
        grow(helpers);
        if (pool.workers.load() > 0) job = take_slot();
    }
    if (job == nullptr) {
        for (int64_t i = 0; i < count; ++i) body(context, i);
        return;
    }
    std::exception_ptr error;
    job->body = body;
    job->context = context;
    job->count = count;
    job->error = &error;
    job->failed = false;
    job->next = 0;
    job->state = static_cast<uint32_t>(helpers) * ticket;
    const bool spin = helpers < pool.processors.load();
    pool.spin = spin;
    ++pool.posted;
    const int wanted = helpers - pool.spinning.load();
    if (wanted > 0 && pool.sleeping.load() > 0) wake(pool.posted, wanted);

    work(*job);

    job->state &= ~tickets;
    const auto done = [&] { return (job->state.load() & inside) == 0; };
    if (!(spin ? spin_until(done) : done())) {
        for (uint32_t state = job->state |= asleep; (state & inside) != 0; state = job->state) {
            sleep_while(job->state, state);
        }
    }
    pool.taken &= ~(uint32_t{1} << (job - pool.job));
    if (error) std::rethrow_exception(error);
}

}  // namespace backlit
