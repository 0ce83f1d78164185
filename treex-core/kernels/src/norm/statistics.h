// What is saved of the variance of a group: see `layer_norm.h`.
#define INV_STD(var) (1 / sqrt(((var) < 0 ? (real)0 : (var)) + epsilon))
#define SLOPE(var, inv_std) ((var) < 0 ? (real)0 : inv_std * inv_std * ((var) == 0 ? (real)0.5 : (real)1))
