// Sends numbers to another process of this machine, through memory that both have mapped.
#pragma once

#include <cstddef>

namespace glm {

// Bytes of the memory. It is zero at first.
size_t channel_bytes();

// Copies `bytes` to the channel. Waits only while it is full: then the receiver lags far behind.
void channel_send(void* shared, const void* data, size_t bytes);

// Copies the next `bytes` from the channel; waits for them. The sizes are those of the sender.
void channel_receive(void* shared, void* data, size_t bytes);

}  // namespace glm
