// NumPy arrays as arguments and results, and the interpreter's lock: what bindings.cpp needs of Python, and it alone.
#pragma once

#include <nanobind/nanobind.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>
#include <unistd.h>

#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "denormals.h"
#include "memory.h"

namespace backlit {

namespace nb = nanobind;

using Sizes = std::vector<int64_t>;

// PyTraceMalloc_Track and PyTraceMalloc_Untrack, which the headers of Python 3.11 declare as if they were C++.
int track(unsigned domain, uintptr_t pointer, size_t bytes) __asm__("PyTraceMalloc_Track");
int untrack(unsigned domain, uintptr_t pointer) __asm__("PyTraceMalloc_Untrack");

constexpr unsigned traced = 0xbac11;        // the domain in which tracemalloc, if it is on, finds the memory of arrays
constexpr double worth_letting_go = 20e-6;  // seconds of work for which other Python threads may take the lock

// Lets other Python threads run during its lifetime. An interpreter that exits meanwhile ends a thread that asks for
// the GIL again (before Python 3.14) by unwinding its stack, through our destructors, which need the GIL themselves:
// here such a thread sleeps until the process has ended.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {  // not by its type: GCC binds that to a null reference
            for (;;) pause();
        }
    }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

  private:
    PyThreadState* state_;
};

inline int64_t product(const Sizes& sizes) {
    int64_t result = 1;
    for (const int64_t size : sizes) result *= size;
    return result;
}

// NumPy's number of an element type.
template <class T>
constexpr int type_of() {
    if (std::is_same_v<T, float>) return NPY_FLOAT;
    if (std::is_same_v<T, double>) return NPY_DOUBLE;
    return sizeof(T) == 1 ? NPY_UINT8 : sizeof(T) == 2 ? NPY_UINT16 : sizeof(T) == 4 ? NPY_UINT32 : NPY_UINT64;
}

// The memory of an argument in C order: the array's own, or a copy's where the array is strided or misaligned, or where
// it is of another type and may be `converted`.
template <class T>
class Argument {
  public:
    Argument(const char* name, nb::handle given, int64_t count, bool converted = false) {
        if (!PyArray_Check(given.ptr()) || PyArray_SIZE(array(given)) != count ||
            (PyArray_TYPE(array(given)) != type_of<T>() && !converted)) {
            throw std::invalid_argument(std::string(name) + " is not the array that the plan was made for");
        }
        constexpr int usual = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
        if (PyArray_TYPE(array(given)) == type_of<T>() && PyArray_CHKFLAGS(array(given), usual) &&
            PyArray_ISNOTSWAPPED(array(given))) {
            held_ = nb::borrow(given);
        } else {
            PyArray_Descr* wanted = PyArray_DescrFromType(type_of<T>());
            held_ = nb::steal(PyArray_FromArray(array(given), wanted, usual | NPY_ARRAY_FORCECAST));
            if (!held_.is_valid()) throw nb::python_error();
        }
    }
    const T* data() const { return static_cast<const T*>(PyArray_DATA(array(held_))); }

  private:
    static PyArrayObject* array(nb::handle object) { return reinterpret_cast<PyArrayObject*>(object.ptr()); }

    nb::object held_;
};

// A new array over memory of our own, which it gives back when it dies; contents undefined.
template <class T>
class Result {
  public:
    explicit Result(const Sizes& shape) {
        const size_t bytes = static_cast<size_t>(product(shape)) * sizeof(T);
        data_ = static_cast<T*>(allocate(bytes));
        nb::object owner = nb::steal(PyCapsule_New(data_, nullptr, [](PyObject* capsule) {
            void* pointer = PyCapsule_GetPointer(capsule, nullptr);
            untrack(traced, reinterpret_cast<uintptr_t>(pointer));
            release(pointer);
        }));
        if (!owner.is_valid()) {
            release(data_);
            throw nb::python_error();
        }
        track(traced, reinterpret_cast<uintptr_t>(data_), bytes);
        static_assert(sizeof(npy_intp) == sizeof(int64_t));
        array_ = nb::steal(PyArray_New(&PyArray_Type, static_cast<int>(shape.size()),
                                       reinterpret_cast<const npy_intp*>(shape.data()), type_of<T>(), nullptr, data_, 0,
                                       NPY_ARRAY_CARRAY, nullptr));
        if (!array_.is_valid() ||
            PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array_.ptr()), owner.release().ptr()) < 0) {
            throw nb::python_error();
        }
    }
    T* data() const { return data_; }
    nb::object array() { return std::move(array_); }

  private:
    T* data_;
    nb::object array_;
};

inline std::string written(const Sizes& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

inline std::string written_bytes(double bytes) {
    return bytes < 1e6 ? std::to_string(static_cast<int64_t>(bytes)) + " bytes"
                       : std::to_string(static_cast<int64_t>(bytes / 1e6)) + " MB";
}

[[noreturn]] inline void refuse_for_memory(const std::string& operation, const Sizes& shape, size_t itemsize) {
    const std::string size = written_bytes(static_cast<double>(product(shape)) * static_cast<double>(itemsize));
    PyErr_Format(PyExc_MemoryError,
                 "%s needs %s for its result of shape %s, and memory to work in, and the system does not grant them: "
                 "compute fewer samples at a time.",
                 operation.c_str(), size.c_str(), written(shape).c_str());
    throw nb::python_error();
}

// What `body` returns, or a MemoryError that tells what it was for.
template <class Body>
nb::object or_refuse(const std::string& operation, const Sizes& shape, size_t itemsize, const Body& body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        refuse_for_memory(operation, shape, itemsize);
    }
}

// Run a body that takes about so many seconds: denormals are zero, and others have the lock where that is worth it.
template <class Body>
void compute(double seconds, const Body& body) {
    const FlushDenormals mode;
    if (seconds < worth_letting_go) return body();
    const WithoutGil others_may_run;
    body();
}

}  // namespace backlit
