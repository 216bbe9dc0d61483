"""What a file of any recorder holds: tables, arrays, matrices of counts, instruments' own files."""
