typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned long long ulong;

#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define READ(index, name) const void* __restrict__ name
#define WRITE(index, name) void* __restrict__ name
#define VALUE(index, type, name) const type name
#define MEMORY const void*
#define TABLE(name) const __grid_constant__ Table name
#define TABLE_REFERENCE(name) const Table& name
#define INLINE __device__ __forceinline__
#define SHARED(type, name, size) __shared__ type name[size];
#define SHARED_POINTER(type, name) type* name
#define SHUFFLE_XOR(x, mask) __shfl_xor_sync(0xffffffffu, x, mask)
#define BARRIER __syncthreads()
#define LOCAL_ID threadIdx.x
#define GROUP_ID blockIdx.x
#define UNROLL _Pragma("unroll")

__device__ inline float bits_to_float(uint bits) { return __uint_as_float(bits); }
__device__ inline double bits_to_double(ulong bits) { return __longlong_as_double((long long)bits); }

__device__ inline float from_f16(ushort bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ inline ushort to_f16(float x) {
    ushort bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ inline float from_bf16(ushort bits) { return __uint_as_float((uint)bits << 16); }

__device__ inline ushort to_bf16(float x) {
    const uint bits = __float_as_uint(x);
    if (x != x) return (ushort)(bits >> 16 | 0x40);
    return (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

__device__ inline float round_to_odd(float x) { return x; }
__device__ inline float round_to_odd(double x) {
    const float toward_zero = __double2float_rz(x);
    const bool is_exact = (double)toward_zero == x || x != x;
    return is_exact ? toward_zero : __uint_as_float(__float_as_uint(toward_zero) | 1);
}

#define INFINITE bits_to_float(0x7f800000u)
#define NOT_A_NUMBER bits_to_float(0x7fc00000u)

#define LOAD_U8(address, i) ((const unsigned char*)(address))[i]
#define LOAD_U32(address, i) ((const uint*)(address))[i]
#define LOAD_U64(address, i) ((const ulong*)(address))[i]
#define LOAD_F32(address, i) ((const float*)(address))[i]
#define LOAD_F64(address, i) ((const double*)(address))[i]
#define LOAD_F16(address, i) from_f16(((const ushort*)(address))[i])
#define LOAD_BF16(address, i) from_bf16(((const ushort*)(address))[i])
#define STORE_U8(address, i, x) (((unsigned char*)(address))[i] = (unsigned char)(x))
#define STORE_U32(address, i, x) (((uint*)(address))[i] = (x))
#define STORE_U64(address, i, x) (((ulong*)(address))[i] = (x))
#define STORE_F32(address, i, x) (((float*)(address))[i] = (float)(x))
#define STORE_F64(address, i, x) (((double*)(address))[i] = (x))
#define STORE_WIDEST(address, i, x) STORE_F64(address, i, x)
#define STORE_F16(address, i, x) (((ushort*)(address))[i] = to_f16(round_to_odd(x)))
#define STORE_BF16(address, i, x) (((ushort*)(address))[i] = to_bf16(round_to_odd(x)))
