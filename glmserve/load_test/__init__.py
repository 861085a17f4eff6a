"""`glmserve bench load`: a load test of any server of OpenAI's API. It needs aiohttp."""
