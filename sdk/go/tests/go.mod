module collector

go 1.26

require wabbit v0.0.0

replace wabbit => ../
