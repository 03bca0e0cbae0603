-- ARGV: holder. Lets go of the pictures that it holds; those that nobody else holds become litter.
release(ARGV[1])
return 1
