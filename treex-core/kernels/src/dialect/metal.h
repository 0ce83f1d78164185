// Metal. It has no `double`: F64 is not there, and `bits_to_double` rounds to a float. Fast mathematics must be off.
#include <metal_stdlib>
using namespace metal;

// A pointer of each address space, memory of a group, and a parameter that is a value.
#ifndef DEVICE_POINTER
#define DEVICE_POINTER(type) device type*
#define GROUP_POINTER(type) threadgroup type*
#define GROUP_ARRAY(type, name, size) threadgroup type name[size]
#define CONSTANT_VALUE(type) constant type&
#endif

#define KERNEL(name, ...) \
    kernel void name(__VA_ARGS__, uint local_id [[thread_position_in_threadgroup]], \
                     uint group_id [[threadgroup_position_in_grid]])
#define READ(index, name) DEVICE_POINTER(const void) name [[buffer(index)]]
#define WRITE(index, name) DEVICE_POINTER(void) name [[buffer(index)]]
#define VALUE(index, type, name) CONSTANT_VALUE(type) name [[buffer(index)]]
#define MEMORY DEVICE_POINTER(const void)
#define INLINE inline
#define SHARED(type, name, size) GROUP_ARRAY(type, name, size);
#define SHARED_POINTER(type, name) GROUP_POINTER(type) name
#define SHUFFLE_XOR(x, mask) simd_shuffle_xor(x, mask)
#define BARRIER threadgroup_barrier(mem_flags::mem_threadgroup)
#define LOCAL_ID local_id
#define GROUP_ID group_id
#define UNROLL _Pragma("unroll")

inline float bits_to_float(uint bits) { return as_type<float>(bits); }

// The exponent of a float is less by 896, and its fraction is shorter by 29 bits, or by more below 2^-126.
inline float bits_to_double(ulong bits) {
    const uint sign = (uint)(bits >> 32) & 0x80000000u, exponent = (uint)(bits >> 52) & 0x7ff;
    const ulong fraction = bits & 0xffffffffffffful;
    if (exponent == 0x7ff) return as_type<float>(sign | 0x7f800000u | (fraction ? 0x400000u : 0u));
    if (exponent >= 896 + 255) return as_type<float>(sign | 0x7f800000u);
    if (exponent < 896 - 23) return as_type<float>(sign);
    const bool is_normal = exponent > 896;
    const ulong number = is_normal ? (ulong)(exponent - 896) << 52 | fraction : 1ul << 52 | fraction;
    const uint shift = is_normal ? 29 : 29 + 897 - exponent;
    const ulong half_way = 1ul << (shift - 1);
    return as_type<float>(sign | (uint)((number + half_way - 1 + (number >> shift & 1)) >> shift));
}

inline float from_f16(ushort bits) { return (float)as_type<half>(bits); }
inline ushort to_f16(float x) { return as_type<ushort>((half)x); }

inline float from_bf16(ushort bits) { return as_type<float>((uint)bits << 16); }

inline ushort to_bf16(float x) {
    const uint bits = as_type<uint>(x);
    if (x != x) return (ushort)(bits >> 16 | 0x40);
    return (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// exp(x) - 1 and log(1 + x), by exponentials and logarithms of one rounded number: its error is divided out.
inline float expm1(float x) {
    const float u = exp(x);
    if (u == 1.0f) return x;
    if (u - 1.0f == -1.0f) return -1.0f;
    return u == bits_to_float(0x7f800000u) ? u : (u - 1.0f) * (x / log(u));
}

inline float log1p(float x) {
    const float u = 1.0f + x;
    return u == 1.0f || u == bits_to_float(0x7f800000u) ? x : log(u) * (x / (u - 1.0f));
}

#define INFINITE bits_to_float(0x7f800000u)
#define NOT_A_NUMBER bits_to_float(0x7fc00000u)

#define ELEMENT_AT(type, address, i) ((DEVICE_POINTER(type))(address))[i]
#define LOAD_U8(address, i) ELEMENT_AT(const uchar, address, i)
#define LOAD_U32(address, i) ELEMENT_AT(const uint, address, i)
#define LOAD_U64(address, i) ELEMENT_AT(const ulong, address, i)
#define LOAD_F32(address, i) ELEMENT_AT(const float, address, i)
#define LOAD_F16(address, i) from_f16(ELEMENT_AT(const ushort, address, i))
#define LOAD_BF16(address, i) from_bf16(ELEMENT_AT(const ushort, address, i))
#define STORE_U8(address, i, x) (ELEMENT_AT(uchar, address, i) = (uchar)(x))
#define STORE_U32(address, i, x) (ELEMENT_AT(uint, address, i) = (x))
#define STORE_F32(address, i, x) (ELEMENT_AT(float, address, i) = (float)(x))
#define STORE_WIDEST(address, i, x) STORE_F32(address, i, x)
#define STORE_F16(address, i, x) (ELEMENT_AT(ushort, address, i) = to_f16(x))
#define STORE_BF16(address, i, x) (ELEMENT_AT(ushort, address, i) = to_bf16(x))
