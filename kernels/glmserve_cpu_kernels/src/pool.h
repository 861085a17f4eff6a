// Threads that share the work of one call: they look for work for a while before they sleep, because
// the next call of a step comes within microseconds, and sleep otherwise, because the cores belong to
// the server's other process too.
#pragma once

#include <functional>

namespace glm {

// Threads that run() uses, the caller's among them. Not while a run is under way.
void set_threads(int count);
int threads();

// work(task) for every task in [0, tasks), each once, on any thread; returns when all are done.
// Calls from several threads at a time: one has the pool, the others do their work alone.
void run(int tasks, const std::function<void(int)>& work);

}  // namespace glm
