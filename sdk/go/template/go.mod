module {{name}}

go 1.26

require wabbit v0.0.0

// The way from this folder to wabbit's SDK.
replace wabbit => {{sdk}}/go
