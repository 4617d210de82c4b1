//! Tests of the codec from outside: tables of packets, round trips, streams, and bounded runs of the fuzz targets.

mod fuzz;
