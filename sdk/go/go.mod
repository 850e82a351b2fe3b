module wabbit

go 1.26
