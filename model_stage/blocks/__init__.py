"""Attention blocks, one file each: the module, its plain reference twin, its options in a preset and its adapter.

registry      the kinds of blocks there are        interest            what a block gives; one instance per table set
block_input   what blocks read of a batch          pairs, sequence     what blocks over pairs and over lists share
"""
