"""The control side's line to one host: ssh, local. Bytes and frames; knows no release and decides nothing."""
