#include "cpu.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

namespace backlit {
namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

int processors_in_affinity_mask() {
    // The kernel answers EINVAL while the mask is shorter than the number of processors it was built for.
    for (int count = 1024; count <= 1 << 20; count *= 2) {
        cpu_set_t* mask = CPU_ALLOC(count);
        if (mask == nullptr) break;
        const size_t bytes = CPU_ALLOC_SIZE(count);
        const bool known = sched_getaffinity(0, bytes, mask) == 0;
        const int error = errno;
        const int processors = known ? CPU_COUNT_S(bytes, mask) : 0;
        CPU_FREE(mask);
        if (known) return std::max(processors, 1);
        if (error != EINVAL) break;
    }
    return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    return parts;
}

bool contains(const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

// Paths in mountinfo have spaces and the like as a backslash and three octal digits.
std::string unescape(const std::string& text) {
    std::string result;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            result += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

// Version 2 keeps "quota period" in one file, the quota being "max" for none. In microseconds.
double quota_v2(const std::string& folder) {
    double quota = 0, period = 0;
    std::ifstream file(folder + "/cpu.max");
    return file >> quota >> period && quota > 0 && period > 0 ? quota / period : unlimited;
}

// Version 1 keeps them in two files, the quota being -1 for none. In microseconds.
double quota_v1(const std::string& folder) {
    double quota = 0, period = 0;
    std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
    return quota_file >> quota && period_file >> period && quota > 0 && period > 0 ? quota / period : unlimited;
}

// The tightest quota from the group `path` up to `mount_point`, where the group `mount_root` of the hierarchy shows.
template <class Quota>
double tightest(const std::string& mount_point, const std::string& mount_root, const std::string& path, Quota quota) {
    const std::string prefix = mount_root == "/" ? "" : mount_root;
    // A group that lies outside the mount (another namespace's) cannot be read; what encloses it can.
    const bool inside = path.compare(0, prefix.size(), prefix) == 0 && path.find("..") == std::string::npos &&
                        (path.size() == prefix.size() || path[prefix.size()] == '/');
    std::string below = inside ? path.substr(prefix.size()) : "";
    double result = quota(mount_point);
    while (below.size() > 1) {
        result = std::min(result, quota(mount_point + below));
        below.erase(below.rfind('/'));
    }
    return result;
}

}  // namespace

std::vector<std::string> isas() {
    std::vector<std::string> result = {"baseline"};
#if defined(__x86_64__)
    // __builtin_cpu_supports also asks xgetbv whether the operating system saves the wider registers.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) result.push_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
        result.push_back("avx512");
    }
#endif
    return result;
}

double cpu_quota(const std::string& root) {
    // Which group of each hierarchy: lines "id:controllers:path"; the controllers of version 2 are empty.
    std::string path_v1, path_v2;
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        if (controllers.empty()) path_v2 = path;
        if (contains(split(controllers, ','), "cpu")) path_v1 = path;
    }
    // Where each hierarchy shows: "id parent device root mount_point options... - type source super_options".
    double result = unlimited;
    std::ifstream mounts(root + "/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        const std::vector<std::string> fields = split(line, ' ');
        const auto dash = static_cast<size_t>(std::find(fields.begin(), fields.end(), "-") - fields.begin());
        if (dash < 6 || dash + 3 >= fields.size()) continue;
        const std::string &type = fields[dash + 1], mount_root = unescape(fields[3]);
        const std::string mount_point = root + unescape(fields[4]);
        if (type == "cgroup2" && !path_v2.empty()) {
            result = std::min(result, tightest(mount_point, mount_root, path_v2, quota_v2));
        } else if (type == "cgroup" && !path_v1.empty() && contains(split(fields[dash + 3], ','), "cpu")) {
            result = std::min(result, tightest(mount_point, mount_root, path_v1, quota_v1));
        }
    }
    return result;
}

int usable_threads() {
    const int processors = processors_in_affinity_mask();
    const double quota = std::ceil(cpu_quota(""));
    return quota < processors ? std::max(static_cast<int>(quota), 1) : processors;
}

std::string compiler() {
#if defined(__clang__)
    return __VERSION__;
#else
    return "GCC " __VERSION__;
#endif
}

}  // namespace backlit
