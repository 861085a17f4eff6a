"""All peers, and which of them can run here."""

from __future__ import annotations

from pathlib import Path

from peer_servers import glmserve, llama_cpp, openvino, transformers, vllm, xft
from peer_servers.setup import Peer

OURS = glmserve.PEER
PEERS = (vllm.PEER, openvino.PEER, llama_cpp.PEER, xft.PEER, transformers.PEER)


def why_not(
    peer: Peer, precision: str, environments: Path, cpuinfo: Path = Path("/proc/cpuinfo")
) -> str | None:
    """Why a peer cannot take part; None if it can."""
    if precision not in peer.precisions:
        return f"has no {precision}"
    if peer.cpu_flag and peer.cpu_flag not in cpuinfo.read_text().split():
        return f"needs a CPU with {peer.cpu_flag}"
    folder = environments / peer.name
    if peer.program and not (folder / peer.program).exists():
        return f"not installed: bench/peers_install.sh {peer.name} {folder}"
    return None
