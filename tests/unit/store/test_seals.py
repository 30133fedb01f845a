import pytest

from store.delta.checksum import SealedNumber, seal, unseal
from store.errors import CorruptRecordError


def test_what_was_sealed_comes_back():
    for value in (b"", b"x", bytes(100)):
        assert unseal(b"key", seal(b"key", value)) == value
    assert SealedNumber.unpack(SealedNumber.pack(2**64 - 1)) == (2**64 - 1,)


def test_the_bytes_are_those_of_the_format():
    assert seal(b"", (7).to_bytes(8, "little")).hex() == "0700000000000000af96b5d6"


def test_any_flipped_bit_is_found():
    sealed = seal(b"key", b"value")
    for bit in range(8 * len(sealed)):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecordError, match="entry 6b6579 of the delta"):
            unseal(b"key", bytes(broken))
    with pytest.raises(CorruptRecordError):
        unseal(b"kez", sealed)
    with pytest.raises(CorruptRecordError):
        unseal(b"key", b"")
