"""What `anetrain COMMAND` calls: arguments, what is printed, exit codes. The work is done by the library."""
