"""An event loop in a thread, for the libraries that need one."""

import asyncio
import threading

from .base import WAIT, Failed


class Loop:
    """Runs coroutines for callers that are no coroutines."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine, timeout=WAIT + 5):
        try:
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, timeout), self.loop).result()
        except (asyncio.TimeoutError, TimeoutError):
            raise Failed(f"nothing within {timeout:g} s") from None

    def stop(self):
        async def cancel():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        # What the libraries say about tasks that are cancelled here is of no interest.
        self.loop.call_soon_threadsafe(self.loop.set_exception_handler, lambda *_: None)
        asyncio.run_coroutine_threadsafe(cancel(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
