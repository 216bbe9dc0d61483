"""Detection: is this part defective, and where?"""
