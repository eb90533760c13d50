"""A GPU that is not there, by which what runs on GPUs is tested without one.

``device`` makes it in this process, ``environment`` in one that is started; ``building`` compiles
it. It is torch's one accelerator then, so no process has it whose tests are of the CPU.
"""
