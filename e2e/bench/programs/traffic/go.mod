module tokenfleet/bench/traffic

go 1.24
