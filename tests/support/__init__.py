"""What tests share: input strategies, independent oracles, the one tolerance."""
