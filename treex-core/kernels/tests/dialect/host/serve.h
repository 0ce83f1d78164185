// Runs a kernel of this program on what standard input says, in three orders, and writes all memory to standard output.

namespace serve {

inline void read(void* to, size_t size) {
    if (std::fread(to, 1, size, stdin) != size) host::fail("input", "it ends early");
}

inline ulong number() {
    ulong x;
    read(&x, sizeof(x));
    return x;
}

inline host::Bytes bytes() {
    host::Bytes all(number());
    if (!all.empty()) read(all.data(), all.size());
    return all;
}

// A parameter: memory by its number, or a value by its bytes.
struct Parameter {
    ulong memory;
    host::Bytes value;
};
inline std::vector<Parameter> parameters;

template <class T> struct As {
    static T of(const Parameter& from) {
        T x;
        if (from.value.size() != sizeof(T)) host::fail("input", "%lu bytes for a value of %lu", from.value.size(), sizeof(T));
        std::memcpy(&x, from.value.data(), sizeof(T));
        return x;
    }
};
template <> struct As<host::Read> {
    static host::Read of(const Parameter& from) { return host::Read(host::memory.at(from.memory)); }
};
template <> struct As<host::Write> {
    static host::Write of(const Parameter& from) { return host::Write(host::memory.at(from.memory)); }
};

template <class... P, size_t... N>
void call(void (*kernel)(P...), std::index_sequence<N...>) {
    kernel(As<P>::of(parameters[N])...);
}

struct Kernel {
    size_t parameters;
    std::function<void()> run;
};

template <class... P> Kernel kernel(void (*kernel)(P...)) {
    return {sizeof...(P), [kernel] { call(kernel, std::index_sequence_for<P...>()); }};
}

inline int all(const std::vector<Kernel>& kernels) {
    const Kernel& kernel = kernels.at(number());
    const uint groups = number(), threads = number();
    std::vector<host::Bytes> before(number()), first;
    for (host::Bytes& memory : before) memory = bytes();
    parameters.resize(number());
    for (Parameter& parameter : parameters) {
        parameter.memory = number();
        parameter.value = bytes();
    }
    if (parameters.size() != kernel.parameters)
        host::fail("input", "%lu parameters of %lu", parameters.size(), kernel.parameters);
    for (ulong order : {host::Order::FORWARD, host::Order::REVERSED, 17ul}) {
        host::memory = before;
        host::launch(groups, threads, host::Order{order}, kernel.run);
        if (order == host::Order::FORWARD) first = host::memory;
        if (host::memory != first) host::fail("order", "other bits in the order %lu", order);
    }
    for (const host::Bytes& memory : first) std::fwrite(memory.data(), 1, memory.size(), stdout);
    return 0;
}

} // namespace serve
