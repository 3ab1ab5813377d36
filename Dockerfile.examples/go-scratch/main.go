// Greets whoever is named, and counts the files beside it: there are none.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	entries, err := os.ReadDir("/")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, entry := range entries {
		if entry.Name() == "bin" {
			fmt.Fprintln(os.Stderr, "this is not scratch")
			os.Exit(3)
		}
	}
	fmt.Printf("hello, %s\n", strings.Join(os.Args[1:], " and "))
}
