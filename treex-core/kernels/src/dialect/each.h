// For each element i of a group's, below length: EACH_THREAD for a thread.
#define OF_ALL(i, length) \
    for (ulong i = (ulong)GROUP_ID * (GROUP_SIZE * EACH_THREAD) + LOCAL_ID, \
               end = i - LOCAL_ID + GROUP_SIZE * EACH_THREAD; \
         i < end && i < length; i += GROUP_SIZE)
