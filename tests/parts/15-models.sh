# shellcheck shell=bash disable=SC2154
# Takeover, leases and the SUBACK barrier in every order of events: about two minutes on two busy processors.
add_part models

part_models() { cargo_tests models "${all[@]}" --test models; }
