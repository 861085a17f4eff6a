"""A member in an actor's process."""

from __future__ import annotations

import asyncio
import logging
import os

import msgspec

from glmserve.contract.shard import WHOLE
from glmserve.contract.wire import decode_json
from glmserve.machines.layout import Layout
from glmserve.machines.member import Member, describe
from glmserve.machines.ray.order import ActorOrder
from glmserve.process.npu_environment import npu_environment


class MemberActor:
    """Made a Ray actor by the launcher."""

    def run(self, order: bytes) -> None:
        """Run the rank until the server ends.

        Args:
            order: an ActorOrder as JSON.

        Raises:
            StartupError: the server refuses this member, or the checkpoint cannot be read here.
        """
        logging.basicConfig(format="glmserve: %(levelname)s: %(message)s")
        own = decode_json(order, ActorOrder)
        layout = Layout(
            count=own.order.count + 1,
            number=own.number,
            host=own.host,
            port=own.order.port,
            # Ray shows each actor only the devices that it has reserved.
            places=(WHOLE,),
            noun="actor",
            stays=False,
        )
        # Ray names the NPUs of an actor in its environment.
        config = msgspec.structs.replace(own.order.config, npu=npu_environment(os.environ))
        info = describe(layout, config)
        key = bytes.fromhex(own.order.key)
        asyncio.run(Member(layout, info, key, on_loopback=False).run())
