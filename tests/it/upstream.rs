//! The client of the registries that are mirrored, against an honest registry and a lying one.
