#define JOINED(a, b) a##b
#define OF_ELEMENT(access, element) JOINED(access, element)
#define LOAD(x, i) OF_ELEMENT(LOAD_, ELEMENT)(x, i)
#define STORE(x, i, value) OF_ELEMENT(STORE_, ELEMENT)(x, i, value)

#if IS_WIDE
typedef double real;
#define LOAD_REAL(x, i) LOAD_F64(x, i)
#define STORE_REAL(x, i, value) STORE_F64(x, i, value)
#define LOWEST -bits_to_double(0x7fefffffffffffffull)
#else
typedef float real;
#define LOAD_REAL(x, i) LOAD_F32(x, i)
#define STORE_REAL(x, i, value) STORE_F32(x, i, value)
#define LOWEST -bits_to_float(0x7f7fffffu)
#endif
