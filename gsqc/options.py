from dataclasses import dataclass
@dataclass(frozen=True)
class Bits:
    w: int; a: int; g: int
@dataclass(frozen=True)
class AdapterOptions:
    rank: int; alpha: int; linears: tuple
@dataclass(frozen=True)
class CompileOptions:
    pass
