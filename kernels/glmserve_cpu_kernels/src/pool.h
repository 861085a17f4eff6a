// Threads that share the work of one call. They look for work for some microseconds before they sleep,
// because the next call of a step comes within that time. They sleep then, because the server process
// uses the same cores.
#pragma once

#include <functional>

namespace glm {

// Sets the number of threads of run(), the calling one included. Not to be called during a run.
void set_threads(int count);
int threads();

// work(task) for every task in [0, tasks), each once, on any thread; returns when all are done.
// If several threads call it at the same time, one uses the pool and the others compute alone.
void run(int tasks, const std::function<void(int)>& work);

}  // namespace glm
