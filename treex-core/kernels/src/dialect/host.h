// Host C++17, in which address spaces are types and a kernel's mistakes are errors that have a name. The threads of a group are
// fibers, which run one after another between two places where they wait.
#undef _FORTIFY_SOURCE // it takes a jump to another stack for a mistake
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <vector>

typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned long ulong;
static_assert(sizeof(uint) == 4 && sizeof(ulong) == 8, "types of other sizes");
using std::exp, std::expm1, std::fabs, std::fma, std::log, std::log1p, std::pow, std::sqrt, std::tanh;

namespace host {

// Ends the program: `check` is the name of what a kernel did wrong.
[[noreturn]] inline void fail(const char* check, const char* what, ulong first = 0, ulong second = 0) {
    std::fflush(stdout);
    std::fprintf(stderr, "CHECK %s: ", check);
    std::fprintf(stderr, what, first, second);
    std::fputc('\n', stderr);
    std::_Exit(3);
}

template <class T> constexpr bool is_wrong = false;

// The memory of a tensor.
typedef std::vector<unsigned char> Bytes;

// All memory of a launch. Number n is at the address (n + 1) << 40 in a table.
inline std::vector<Bytes> memory;

inline Bytes& memory_at(ulong address) {
    const ulong number = (address >> 40) - 1;
    if (number >= memory.size()) fail("out-of-bounds", "there is no memory at the address %lx", address);
    return memory[number];
}

template <class T> T load_at(const Bytes& bytes, ulong offset, ulong i) {
    const ulong length = offset < bytes.size() ? (bytes.size() - offset) / sizeof(T) : 0;
    if (i >= length) fail("out-of-bounds", "element %lu of %lu is loaded", i, length);
    T x;
    std::memcpy(&x, &bytes[offset + i * sizeof(T)], sizeof(T));
    return x;
}

template <class T> void store_at(Bytes& bytes, ulong offset, ulong i, T x) {
    const ulong length = offset < bytes.size() ? (bytes.size() - offset) / sizeof(T) : 0;
    if (i >= length) fail("out-of-bounds", "element %lu of %lu is stored", i, length);
    std::memcpy(&bytes[offset + i * sizeof(T)], &x, sizeof(T));
}

// A READ parameter.
class Read {
  public:
    explicit Read(Bytes& bytes) : bytes(&bytes) {}
    template <class Other, class = std::enable_if_t<!std::is_base_of<Read, Other>::value>> Read(const Other&) {
        static_assert(is_wrong<Other>, "CHECK device-memory: this is no memory of a tensor");
    }
    template <class T> T load(ulong i) const { return load_at<T>(*bytes, 0, i); }

  protected:
    Bytes* bytes;
};

// A WRITE parameter, which can be read too.
class Write : public Read {
  public:
    explicit Write(Bytes& bytes) : Read(bytes) {}
    template <class T> void store(ulong i, T x) const { store_at<T>(*bytes, 0, i, x); }
};

template <class T, class From> T load(const From& from, ulong i) {
    if constexpr (std::is_same<From, ulong>::value) {
        return load_at<T>(memory_at(from), from & 0xffffffffff, i);
    } else {
        static_assert(std::is_base_of<Read, From>::value, "CHECK device-memory: this is no memory of a tensor");
        return from.template load<T>(i);
    }
}

template <class T, class To> void store(const To& to, ulong i, T x) {
    if constexpr (std::is_same<To, ulong>::value) {
        store_at<T>(memory_at(to), to & 0xffffffffff, i, x);
    } else {
        static_assert(!std::is_same<To, Read>::value, "CHECK read-only: what is READ cannot be written");
        static_assert(std::is_base_of<Read, To>::value, "CHECK device-memory: this is no memory of a tensor");
        to.template store<T>(i, x);
    }
}

// The order in which groups, and threads between two places where they wait, run.
struct Order {
    static constexpr ulong FORWARD = 0, REVERSED = 1;
    ulong seed; // one of these, or that of a new order each time

    std::vector<uint> of(uint count) {
        std::vector<uint> all(count);
        for (uint i = 0; i < count; ++i) all[i] = seed == REVERSED ? count - 1 - i : i;
        for (uint i = count; seed > REVERSED && i > 1; --i) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull | 2;
            std::swap(all[i - 1], all[(seed >> 33) % i]);
        }
        return all;
    }
};

enum State { RUNNING, AT_BARRIER, AT_SHUFFLE, DONE };

struct Thread {
    ucontext_t start;
    jmp_buf paused; // after the start: a jump makes no system call
    bool is_started = false;
    std::unique_ptr<char[]> stack;
    State state;
    uint place; // where it waits
    ulong exchanged[2];
    uint exchanges;
};

// What is known of an element of shared memory since the last barrier: by which threads it was read and written.
struct Accesses {
    ulong written = 0, read = 0; // after so many barriers; 0: never
    uint writer = 0, reader = 0;
    bool has_other_readers = false;
};

struct SharedMemory {
    Bytes bytes;
    std::vector<Accesses> accesses;
};

constexpr uint WARP = 32;
constexpr size_t STACK = 1 << 16;

// The group that runs.
struct Group {
    jmp_buf scheduler;
    std::vector<Thread> threads;
    const std::function<void()>* body;
    uint thread = 0, number = 0;
    ulong barriers = 1;
    std::map<const void*, SharedMemory> shared;
};
inline Group group;

inline void wait(State state, uint place) {
    Thread& thread = group.threads[group.thread];
    thread.state = state;
    thread.place = place;
    if (_setjmp(thread.paused) == 0) _longjmp(group.scheduler, 1);
}

inline void enter() {
    for (;;) {
        (*group.body)();
        wait(DONE, 0);
    }
}

// Whether these threads are all at the end, or all at one place.
inline State check_together(const uint first, const uint end) {
    const Thread& one = group.threads[first];
    for (uint i = first + 1; i < end; ++i) {
        const Thread& other = group.threads[i];
        if (other.state == one.state && other.place == one.place) continue;
        if (other.state == DONE || one.state == DONE)
            fail("missing-thread", "threads %lu and %lu: one waits, and the other one has returned", first, i);
        fail("different-places", "threads %lu and %lu wait at different places", first, i);
    }
    return one.state;
}

inline void resume(uint number) {
    Thread& thread = group.threads[number];
    group.thread = number;
    thread.state = RUNNING;
    if (_setjmp(group.scheduler) != 0) return;
    if (thread.is_started) _longjmp(thread.paused, 1);
    thread.is_started = true;
    setcontext(&thread.start);
}

// Runs a group to its end.
inline void run_group(uint number, Order& order) {
    const uint count = group.threads.size();
    group.number = number;
    group.barriers = 1;
    group.shared.clear();
    for (Thread& thread : group.threads) thread.exchanges = 0;
    State state;
    do {
        for (uint warp : order.of((count + WARP - 1) / WARP)) {
            const uint first = warp * WARP, end = first + WARP < count ? first + WARP : count;
            do {
                for (uint i : order.of(end - first)) resume(first + i);
            } while (check_together(first, end) == AT_SHUFFLE);
        }
        state = check_together(0, count);
        ++group.barriers;
    } while (state != DONE);
}

// Runs all groups of so many threads.
inline void launch(uint groups, uint threads, Order order, const std::function<void()>& body) {
    group.body = &body;
    group.threads = std::vector<Thread>(threads);
    for (Thread& thread : group.threads) {
        getcontext(&thread.start);
        thread.stack.reset(new char[STACK]);
        thread.start.uc_stack.ss_sp = thread.stack.get();
        thread.start.uc_stack.ss_size = STACK;
        thread.start.uc_link = nullptr;
        makecontext(&thread.start, enter, 0);
    }
    for (uint number : order.of(groups)) run_group(number, order);
}

// x of the thread whose number differs by these bits. A number is read before its thread has written the next but one.
template <class T> T shuffle_xor(T x, uint mask, uint place) {
    static_assert(sizeof(T) <= sizeof(ulong), "a number of more than 8 bytes");
    Thread& thread = group.threads[group.thread];
    const uint at = thread.exchanges++ % 2;
    std::memcpy(&thread.exchanged[at], &x, sizeof(T));
    wait(AT_SHUFFLE, place);
    const uint other = group.thread ^ mask;
    if (other / WARP != group.thread / WARP || other >= group.threads.size())
        fail("shuffle", "thread %lu has no thread %lu beside it", group.thread, other);
    std::memcpy(&x, &group.threads[other].exchanged[at], sizeof(T));
    return x;
}

// An element of shared memory.
template <class T> class Shared {
  public:
    Shared(SharedMemory* memory, ulong i) : memory(memory), i(i) {}

    operator T() const {
        Accesses& of = memory->accesses[i];
        if (of.written == 0) fail("not-written", "element %lu of shared memory is read before it is written", i);
        if (of.written == group.barriers && of.writer != group.thread)
            fail("race", "thread %lu reads what thread %lu has written, without a barrier", group.thread, of.writer);
        of.has_other_readers = of.read == group.barriers && (of.has_other_readers || of.reader != group.thread);
        of.read = group.barriers;
        of.reader = group.thread;
        T x;
        std::memcpy(&x, &memory->bytes[i * sizeof(T)], sizeof(T));
        return x;
    }

    Shared& operator=(T x) {
        Accesses& of = memory->accesses[i];
        if (of.written == group.barriers && of.writer != group.thread)
            fail("race", "threads %lu and %lu write one element, without a barrier", group.thread, of.writer);
        if (of.read == group.barriers && (of.has_other_readers || of.reader != group.thread))
            fail("race", "thread %lu writes what thread %lu or another one reads, without a barrier", group.thread, of.reader);
        of.written = group.barriers;
        of.writer = group.thread;
        std::memcpy(&memory->bytes[i * sizeof(T)], &x, sizeof(T));
        return *this;
    }

    Shared& operator=(const Shared& other) { return *this = (T)other; }
    Shared& operator+=(T x) { return *this = (T)*this + x; }

  private:
    SharedMemory* memory;
    ulong i;
};

// Shared memory of a group.
template <class T> class SharedPointer {
  public:
    explicit SharedPointer(SharedMemory* memory) : memory(memory) {}
    template <class Other> SharedPointer(const Other&) {
        static_assert(is_wrong<Other>, "CHECK shared-memory: this is no memory of a group, or one of another type");
    }

    Shared<T> operator[](ulong i) const {
        if (i >= memory->accesses.size())
            fail("out-of-bounds", "element %lu of %lu of shared memory", i, memory->accesses.size());
        return Shared<T>(memory, i);
    }

  private:
    SharedMemory* memory;
};

// The memory of a group for this place of the text.
template <class T> SharedPointer<T> shared(const void* place, ulong size) {
    SharedMemory& memory = group.shared[place];
    if (memory.accesses.empty()) {
        memory.bytes.resize(size * sizeof(T));
        memory.accesses.resize(size);
    }
    return SharedPointer<T>(&memory);
}

} // namespace host

#define KERNEL(name, ...) inline void name(__VA_ARGS__)
#define READ(index, name) const host::Read name
#define WRITE(index, name) const host::Write name
#define VALUE(index, type, name) const type name
#define MEMORY const host::Read
#define TABLE(name) const Table name
#define TABLE_REFERENCE(name) const Table& name
#define INLINE inline
#define SHARED(type, name, size) \
    static const char name##_place = 0; \
    const host::SharedPointer<type> name = host::shared<type>(&name##_place, size);
#define SHARED_POINTER(type, name) const host::SharedPointer<type> name
#define SHUFFLE_XOR(x, mask) host::shuffle_xor(x, mask, __COUNTER__)
#define BARRIER host::wait(host::AT_BARRIER, __COUNTER__)
#define LOCAL_ID host::group.thread
#define GROUP_ID host::group.number
#define UNROLL

inline float bits_to_float(uint bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

inline uint float_to_bits(float x) {
    uint bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
}

inline double bits_to_double(ulong bits) {
    double x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

// Without the sign, a half number has 13 bits less than a float, and an exponent that is less by 112. Those below 2^-14 are
// multiples of 2^-24, the spacing of floats between 1/2 and 1.
inline float from_f16(ushort bits) {
    const uint magnitude = (uint)(bits & 0x7fff) << 13, exponent = magnitude >> 23;
    uint wide = magnitude + (112u << 23);
    if (exponent == 31) wide = magnitude + (224u << 23);
    if (exponent == 0) wide = float_to_bits(bits_to_float(magnitude + (113u << 23)) - bits_to_float(113u << 23));
    return bits_to_float(wide | (uint)(bits & 0x8000) << 16);
}

inline ushort to_f16(float x) {
    const uint bits = float_to_bits(x), magnitude = bits & 0x7fffffff;
    uint half = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    if (magnitude < 113u << 23) half = float_to_bits(bits_to_float(magnitude) + 0.5f) - float_to_bits(0.5f);
    if (magnitude >= 143u << 23) half = 0x7c00;
    if (x != x) half = 0x7e00 | (magnitude >> 13 & 0x3ff);
    return (ushort)(half | (bits >> 16 & 0x8000));
}

inline float from_bf16(ushort bits) { return bits_to_float((uint)bits << 16); }

inline ushort to_bf16(float x) {
    const uint bits = float_to_bits(x);
    if (x != x) return (ushort)(bits >> 16 | 0x40);
    return (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float round_to_odd(float x) { return x; }
inline float round_to_odd(double x) {
    const float nearest = (float)x;
    if ((double)nearest == x || x != x) return nearest;
    const uint bits = float_to_bits(nearest);
    const uint toward_zero = fabs((double)nearest) > fabs(x) ? bits - 1 : bits;
    return bits_to_float(toward_zero | 1);
}

#define INFINITE bits_to_float(0x7f800000u)
#define NOT_A_NUMBER bits_to_float(0x7fc00000u)

#define LOAD_U8(address, i) host::load<unsigned char>(address, i)
#define LOAD_U32(address, i) host::load<uint>(address, i)
#define LOAD_U64(address, i) host::load<ulong>(address, i)
#define LOAD_F32(address, i) host::load<float>(address, i)
#define LOAD_F64(address, i) host::load<double>(address, i)
#define LOAD_F16(address, i) from_f16(host::load<ushort>(address, i))
#define LOAD_BF16(address, i) from_bf16(host::load<ushort>(address, i))
#define STORE_U8(address, i, x) host::store<unsigned char>(address, i, (unsigned char)(x))
#define STORE_U32(address, i, x) host::store<uint>(address, i, x)
#define STORE_U64(address, i, x) host::store<ulong>(address, i, x)
#define STORE_F32(address, i, x) host::store<float>(address, i, (float)(x))
#define STORE_F64(address, i, x) host::store<double>(address, i, (double)(x))
#define STORE_WIDEST(address, i, x) STORE_F64(address, i, x)
#define STORE_F16(address, i, x) host::store<ushort>(address, i, to_f16(round_to_odd(x)))
#define STORE_BF16(address, i, x) host::store<ushort>(address, i, to_bf16(round_to_odd(x)))
