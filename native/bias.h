// The gradient of a bias: sums of dy over everything but its channels.
#pragma once

#include <cstdint>

namespace backlit {

// db[k] = sum over n, i of dy[n, k, i], for dy (outer, channels, inner) in C order, in float64. Channels-last arrays
// have inner 1, samples and positions being one axis. The same bits for any number of threads.
template <class T>
void grad_bias(const T* dy, int64_t outer, int64_t channels, int64_t inner, T* db, int threads);

}  // namespace backlit
