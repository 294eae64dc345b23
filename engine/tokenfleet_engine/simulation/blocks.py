"""The paged KV cache: blocks that sequences with the same beginning share, kept after use until somebody needs the room.

`take`/`release` and `find`/`share` come in pairs; no block is counted anywhere else. Blocks come into being when they are first
needed, so an idle engine with a large cache costs nothing. What has been free the longest is given away first.
"""

from collections import OrderedDict
from collections.abc import Sequence


class Block:
    """`key` stands for its tokens and all before them, once it is full."""

    __slots__ = ("key", "users")

    def __init__(self) -> None:
        self.key: int | None = None
        self.users = 1


class BlockPool:
    def __init__(self, total: int, *, caching: bool = True) -> None:
        self.total = total
        self._caching = caching
        self._unborn = total
        self._idle: OrderedDict[Block, None] = OrderedDict()
        """Used by nobody; those with a key can still be found."""
        self._known: dict[int, Block] = {}

    @property
    def free(self) -> int:
        return self._unborn + len(self._idle)

    @property
    def usage(self) -> float:
        return 1 - self.free / self.total

    def find(self, keys: Sequence[int], *, most: int) -> list[Block]:
        """The longest known beginning, of at most so many blocks. Nothing is held by it yet."""
        found: list[Block] = []
        for key in keys[:most]:
            if (block := self._known.get(key)) is None:
                break
            found.append(block)
        return found

    def idle(self, blocks: Sequence[Block]) -> int:
        """How many of them `share` would take away from the free ones."""
        return sum(not block.users for block in blocks)

    def share(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if not block.users:
                del self._idle[block]
            block.users += 1

    def take(self, count: int) -> list[Block]:
        """New, empty blocks. The caller has seen that so many are free."""
        return [self._take_one() for _ in range(count)]

    def _take_one(self) -> Block:
        if self._unborn:
            self._unborn -= 1
            return Block()
        block, _ = self._idle.popitem(last=False)
        if block.key is not None:
            del self._known[block.key]
            block.key = None
        block.users = 1
        return block

    def fill(self, block: Block, key: int) -> None:
        """It is full now; others with the same beginning may share it. The first one stays where two are alike."""
        if self._caching and block.key is None and key not in self._known:
            block.key = key
            self._known[key] = block

    def release(self, blocks: Sequence[Block]) -> None:
        """The end of a text first, since a beginning is of use to more."""
        for block in reversed(blocks):
            block.users -= 1
            if not block.users:
                self._idle[block] = None
                if block.key is None:
                    self._idle.move_to_end(block, last=False)
