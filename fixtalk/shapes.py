"""Shape annotations → jaxtyping where installed, bare tensors with torch and numpy only."""

try:
    from jaxtyping import Bool, Float, Int, UInt8
except ModuleNotFoundError:

    class _AnyShape:
        """Stand-in for a jaxtyping dtype: `Float[Tensor, "b c"]` is just `Tensor`."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Int = UInt8 = _AnyShape

__all__ = ["Bool", "Float", "Int", "UInt8"]
