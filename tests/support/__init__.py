"""What several tests share. No tests are in here, and nothing that only one folder needs.

Without a network, everything in this process:
    fakes               test doubles at the seams of glmserve: runner, tokenizer, chat format
    fake_server         an application over a fake runner, and clients of it
    adapters            folders of adapters, and a fake runner that holds them
    scripted            a runner that returns the tokens it is told
    speaker             a runner that says a text as far as its constraint allows
    streaming           streams of such an application, read event by event
    worker_on_thread    an executor with threads for workers
    token_streams       tokens of one stream
    simulation          a scheduler and a fake runner under arrivals, aborts and crashes
    arrivals            what hypothesis sends to a scheduler, and what must become of it

Real sockets and processes:
    server_process      `glmserve serve`, and never left behind
    machines            members of a group, and clients that read while machines are lost
    live_server         an application behind a real socket, in this process
    tmux                a terminal in which a command runs, and what it shows
    websocket_client    a client of WebSockets
    device_plugin       a device of another package, installed as pip would leave it
    crashing_worker     streams of a server while its worker is killed again and again
    waiting             waits for events, lets the time-out of the queue pass
    watchdogs           lets the time-outs of workers pass
    paused_process      processes that pause at a chosen point until a signal comes
    certificates        for TLS
    open_resources      memory and descriptors of a process

Clients:
    disconnects, misbehaving_clients       that leave in the middle of something
    sse_client                      that come back with the last id they have seen
    usages                          what scripts say with --help
    named_events, tool_events       read what a stream or a tool parser sends
    response_compare                compares whole answers
    mixed_requests                  conversations of all lengths, for glm-tiny

Schemas:
    openai_schemas, anthropic_schemas       the published ones
    json_schemas, constrained_sampling      random ones, and models that sample under them
    schema_engine                           what a converted one accepts

Models and kernels (these import torch):
    tiny_models         tiny random checkpoints, and a slow reference model
    golden              what the original models compute from the checkpoints in tests/goldens
    golden_over_http    asks a server for that
    compiled            compiles checkpoints, and loads the result
    vendor_operators    runs graphs that were written for vendors' compilers
    paged_model         drives a model over a paged cache
    decoding            drives a runner
    attention_steps     one step of any attention backend against plain attention
    emulated_gpu        Triton's interpreter in the place of a GPU
    ascend_simulator    a CPU in the place of an Ascend NPU
    native              the compiled CPU kernels, or a skip
    faulty_devices      the cpu device with one fault each

How tests are run:
    contract_plugin     how a run within a test loads the device contract
    exhaustive          marks further variants, which a plain run leaves out
    parallel            over how many processes, and in which order
"""
